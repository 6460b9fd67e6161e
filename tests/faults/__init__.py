"""What happens to long pipelines: kills, full disks, bad input, contention, training that goes wrong."""
