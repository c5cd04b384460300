"""What the commands of finite decision processes print and draw."""
