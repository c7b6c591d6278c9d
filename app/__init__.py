"""The application: commands, wiring, services and the processes they run in."""
