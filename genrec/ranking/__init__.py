"""What reorders candidates: its rows, its networks, its trainers, and the counting baselines that it sees."""
