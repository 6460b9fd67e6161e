"""Networks over named features: their layers and losses, and the trainer that all of them share."""
