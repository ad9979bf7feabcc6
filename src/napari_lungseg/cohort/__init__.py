"""Many scans at once: listed, shared out among workers, resumed by content, and told in one table and one page."""
