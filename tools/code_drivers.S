/* The drivers' text, as files of tools/drivers; DRIVERS is that folder. */
    .section .rodata

    .macro driver name
    .global code_text_\name
    .type code_text_\name, @object
code_text_\name:
    .endm

    .macro ending name
    .byte 0
    .size code_text_\name, . - code_text_\name
    .endm

    driver python_boot
    .incbin DRIVERS "/python_boot.py"
    ending python_boot
    driver python
    .incbin DRIVERS "/python.py"
    ending python
    driver node_boot
    .incbin DRIVERS "/node_boot.js"
    ending node_boot
    driver node
    .incbin DRIVERS "/node.js"
    ending node
    driver bash_boot
    .incbin DRIVERS "/bash_boot.sh"
    ending bash_boot
    driver bash
    .incbin DRIVERS "/bash.sh"
    ending bash
    driver c_boot
    .incbin DRIVERS "/c_boot.sh"
    ending c_boot
    driver c
    .incbin DRIVERS "/c_scan.c"
    .incbin DRIVERS "/c_cell.c"
    .incbin DRIVERS "/c_run.c"
    ending c
    .section .note.GNU-stack, "", %progbits
