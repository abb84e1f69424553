"""The whole server on virtual time: one seed is one history of hours, the same on every run.

`python -m tests.simulation --seeds 1-1000 --hours 8` runs the application, its HTTP/1.1 protocol
and client, failover, breakers, streams, state, ledger and journal as they are. Simulated are the
clocks, chance, sockets, threads and the faults of the disk; and around the server Claude Code,
the providers with their weather, and the machine.

| module | holds |
|---|---|
| `seams` | the clocks and the chance of the process, and what of the product is replaced |
| `loop`, `network` | an event loop with virtual time, and its sockets |
| `scripts` | what happens in a history, as data: made from a seed, shrunk, read from a file |
| `weather`, `providers` | what can be wrong with a provider, and the answers that it sends |
| `client` | Claude Code: its retries, tools, agents and sessions |
| `machine` | the server's processes, the disk, the network of the machine, edits by its user |
| `history` | runs a script, and keeps what happened |
| `invariants` | what has to be true of every history |
| `explanations` | what explains that a request failed or was slow |
| `broken` | faults put into the product on purpose, and the seeds that find them |
"""
