"""The command that adds items to a package."""
