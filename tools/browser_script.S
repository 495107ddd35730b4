/* The script of the pages: the files of tools/page, which is where the assembler looks for them. */
    .section .rodata
    .global browser_script
    .type browser_script, @object
browser_script:
    .incbin "names.js"
    .incbin "snapshot.js"
    .incbin "act.js"
    .byte 0
    .size browser_script, . - browser_script
    .section .note.GNU-stack, "", %progbits
