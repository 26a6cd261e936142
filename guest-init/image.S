        .section .rodata
        .balign 16
        .global minivm_init_image_begin, minivm_init_image_end
minivm_init_image_begin:
        .incbin MINIVM_INIT_ELF
minivm_init_image_end:
        .section .note.GNU-stack, "", @progbits
