"""Training of an oracle: settings, data and the fit of reward models, of users' models and of noisy labels."""
