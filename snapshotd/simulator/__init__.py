"""A simulated Hyper-V host behind a WS-Management endpoint. Never used by the product's own paths."""
