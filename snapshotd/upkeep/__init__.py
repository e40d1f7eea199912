"""What an operator runs beside the service: backups and their restore, the doctor, manual pages and completion."""
