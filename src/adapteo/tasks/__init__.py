"""Loss, prediction and metrics, one file for each kind of label."""
