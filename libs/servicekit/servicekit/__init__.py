"""What all services of Pointsman share: serving, errors, passports, channels, configuration, logs."""
