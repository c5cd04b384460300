"""Search trees over the steps of a response: grown by the policy, valued, and read as pairs or lists."""
