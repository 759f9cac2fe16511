"""What a released model needs at work, as pure functions: calibration, operating point, drift. No network, no files."""
