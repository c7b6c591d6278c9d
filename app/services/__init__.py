"""What people do: chat, conversations, accounts, the queue, the prompt library. Knows ports, not parts."""
