"""What watches the pipeline: commands, executions, the store of runs, tracking, comparison. No output holds anything of it."""
