/* The document driver's text: its parts of tools/drivers, each with its name before it. */
    .section .rodata

    .global document_text_boot
    .type document_text_boot, @object
document_text_boot:
    .incbin "document_boot.py"
    .byte 0
    .size document_text_boot, . - document_text_boot

    .macro part name
    .byte 1
    .ascii "\name\n"
    .incbin "\name\().py"
    .endm

    .global document_text_parts
    .type document_text_parts, @object
document_text_parts:
    part document
    part document_zip
    part document_read
    part document_image
    part document_pages
    part document_pdf
    part document_text
    part document_sheet
    part document_slide
    part document_office
    part document_convert
    part document_markup
    part document_edit
    part document_cells
    part document_section
    part document_form
    .byte 0
    .size document_text_parts, . - document_text_parts
    .section .note.GNU-stack, "", %progbits
