"""What networks are built from: dropout, initialisation."""
