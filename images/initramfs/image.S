/* aios-early as it was built: EARLY_IMAGE is its path. */
    .section .rodata
    .balign 4096
    .global early_image
    .type early_image, @object
early_image:
    .incbin EARLY_IMAGE
early_image_end:
    .size early_image, early_image_end - early_image
    .balign 8
    .global early_image_len
    .type early_image_len, @object
early_image_len:
    .quad early_image_end - early_image
    .size early_image_len, 8
    .section .note.GNU-stack, "", %progbits
