"""What the estimators are worth and cost: one folder for each stem; see README.md."""
