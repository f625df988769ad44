"""Pages about what is sent: webhooks, what could not be delivered, what mails look like."""
