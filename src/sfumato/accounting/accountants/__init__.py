"""Accountants, one file each, found by discovery."""
