"""Wyoming, the protocol of Home Assistant's voice services, over TCP or a unix socket.

It needs the library `wyoming` (extra `wyoming`), which nothing else of Greenroom imports, and to be
announced in the network `zeroconf` (extra `zeroconf`).
"""
