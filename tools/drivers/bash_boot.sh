# An interactive shell survives errors and interrupts, and goes on with the next line.  It reads
# lines from the control stream; its own standard output is the way back, so that commands, whose
# streams are redirected, never inherit either; 198 is where their output goes.
exec 198>&1 0<&3 1>&4 2>/dev/null 3<&- 4>&-
PS1= PS2= exec "$BASH" --norc --noprofile --noediting -i
