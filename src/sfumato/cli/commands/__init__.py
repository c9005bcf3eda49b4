"""The commands of `sfumato`, one file each."""
