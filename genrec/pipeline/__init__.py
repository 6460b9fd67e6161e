"""What watches the pipeline: commands, executions, runs, tracking, comparison. No output holds anything of it."""
