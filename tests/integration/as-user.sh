#!/bin/sh
# Runs $AIOS_PROGRAM as an ordinary user: given as AIOS to a suite, it repeats the suite without root.
exec setpriv --reuid=65534 --regid=65534 --clear-groups "$AIOS_PROGRAM" "$@"
