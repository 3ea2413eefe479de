"""What brokers and stores give to services: made by `bootstrap`, looked at by `check`.

`needs` says what a service needs, and one module for each component makes and checks that. Each
imports its client library only when it connects. The modules know servers, no service's code.
"""
