"""Client library: generated messages and stubs, and the player's side of signing, Nostr and keymeld."""
