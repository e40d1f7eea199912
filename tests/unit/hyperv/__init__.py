"""Sessions, credentials and answers of the Hyper-V side."""
