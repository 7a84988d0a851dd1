"""One machine, several processes: a supervisor that is a node without clients, and workers that have them.

==============  =======================================================================================
start           configuration -> a node, a supervisor, or the worker that a supervisor asked for
plan            configuration of all -> that of the supervisor and of each worker, through a private file
supervisor      the node that holds the ports, the directory and the pages, and says when all are ready
pool            all workers: started, counted, told, stopped
worker_process  one worker: its process, started again when it ends
output          what a process writes -> lines in the log of the supervisor
metrics         the metrics of all workers, asked over the links
console         the console of all workers, whichever of them a page reaches
worker          the node inside the worker's process, and its leash
==============  =======================================================================================

::

    supervisor -> pool -> worker_process --spawnProcess--> worker
                                  stdin  --"cut", "reload"--> leash      (end of file: the supervisor is dead)
                                      3  <----- ready ------- leash
                                1 and 2  <------ log -------- worker
"""
