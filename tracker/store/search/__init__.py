"""The run search: filter, conditions, plan, page."""
