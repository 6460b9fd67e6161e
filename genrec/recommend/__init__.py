"""The command and the service that answer people and programs from a package."""
