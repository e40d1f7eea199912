"""The projections over logs in memory."""
