/* For Linux' arch/x86/mm/init.c, which gives the memory of the boot's own code and the gaps of the image back, and
 * fills it with a pattern before. That touches memory that nobody has touched, 3 MiB of it, and the host has to back
 * it. */
#ifndef MINIVM_KERNEL_AHEAD_INIT_H
#define MINIVM_KERNEL_AHEAD_INIT_H

#include <linux/poison.h>

#undef POISON_FREE_INITMEM
#define POISON_FREE_INITMEM (-1) /* free_reserved_area writes what fits into a byte */

#endif
