/* The drivers' text: the files of tools/drivers, which is where the assembler looks for them. */
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
    .incbin "python_boot.py"
    ending python_boot
    driver python
    .incbin "python.py"
    ending python
    driver node_boot
    .incbin "node_boot.js"
    ending node_boot
    driver node
    .incbin "node.js"
    ending node
    driver bash_boot
    .incbin "bash_boot.sh"
    ending bash_boot
    driver bash
    .incbin "bash.sh"
    ending bash
    driver c_boot
    .incbin "c_boot.sh"
    ending c_boot
    driver c
    .incbin "c_scan.c"
    .incbin "c_cell.c"
    .incbin "c_run.c"
    ending c
    .section .note.GNU-stack, "", %progbits
