"""Jobs leave their engine for another one (`departure`): an operator says so (`drained`), or it cannot be asked (`stranded`).

Then it has not answered for long (`failover`), or no process knows it any more (`abandoned`).
"""
