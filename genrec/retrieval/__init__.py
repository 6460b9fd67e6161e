"""A model and a user become ranked items; nothing here is measured."""
