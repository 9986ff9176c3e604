"""The examinations, a file a stage."""
