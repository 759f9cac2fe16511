"""What the watcher knows, on the disk: studies, jobs, results, alerts, deliveries and who saw what."""
