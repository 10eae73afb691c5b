"""EPU session folders and the records of the Athena decision service."""
