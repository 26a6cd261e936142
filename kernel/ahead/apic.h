/* For Linux' arch/x86/kernel/apic/apic.c. Before it switches to x2APIC it reads, masks, and afterwards writes back all
 * entries of the IOAPIC, 192 exits, in case that interrupts are remapped from then on. minivm has nothing that remaps
 * them, and the entries are masked: by the reset (82093AA, 3.2.4), or by the kernel that ran before. */
#ifndef MINIVM_KERNEL_AHEAD_APIC_H
#define MINIVM_KERNEL_AHEAD_APIC_H

/* The second stands on the first. */
/* clang-format off */
#include <linux/bitmap.h>
#include <asm/io_apic.h>
/* clang-format on */

#define save_ioapic_entries() 0
#define mask_ioapic_entries() ((void)0)
#define restore_ioapic_entries() ((void)0)

#endif
