/* The guest program as it was built: GUEST_IMAGE is its path. */
    .section .rodata
    .balign 4096
    .global guest_image
    .type guest_image, @object
guest_image:
    .incbin GUEST_IMAGE
guest_image_end:
    .size guest_image, guest_image_end - guest_image
    .balign 8
    .global guest_image_len
    .type guest_image_len, @object
guest_image_len:
    .quad guest_image_end - guest_image
    .size guest_image_len, 8
    .section .note.GNU-stack, "", %progbits
