"""The commands: options, help and messages; tools/*.py start them in a checkout.

May import everything; nothing imports them.
"""
