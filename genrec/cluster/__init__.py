"""The pipeline's stages over the machines of a Ray cluster; Ray starts processes there, and they meet by themselves."""
