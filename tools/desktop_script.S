/* The text of what the family desktop runs inside a computer: a file of tools/drivers. */
    .section .rodata

    .global desktop_tree_text
    .type desktop_tree_text, @object
desktop_tree_text:
    .incbin "desktop_tree.py"
    .byte 0
    .size desktop_tree_text, . - desktop_tree_text

    .section .note.GNU-stack, "", @progbits
