"""Private mechanisms, one file each, found by discovery."""
