#!/bin/bash
# Run a command again until it ends well, at most TIMES (10) times more. Every run of `mto train` resumes from the
# newest good checkpoint. Not again after status 2 (a mistake of the user's, told in words), 130 (Ctrl-C) and 143
# (SIGTERM: the machine is taken away or the job stopped; it has saved).
#
#   TIMES=3 launch/again.sh mto train --gin_file=...
set -u
for ((run = 0; run <= ${TIMES:-10}; run++)); do
  "$@"
  status=$?
  case $status in 0 | 2 | 130 | 143) exit $status ;; esac
  echo "again.sh: '$1' ended with status $status" >&2
  sleep "${PAUSE:-10}"
done
exit $status
