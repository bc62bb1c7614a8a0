/* A power meter as ACPI declares it (ACPI 6.4, 10.4): 142.5 W, averaged over one to ten seconds. */
DefinitionBlock ("", "SSDT", 2, "WATTLP", "METER", 0x00000001)
{
        Scope (\_SB)
        {
                Device (PMT0)
                {
                        Name (_HID, "ACPI000D")
                        Name (_UID, Zero)
                        Name (GAI, 1000)

                        Method (_STA) { Return (0x0F) }
                        Method (_PMC)
                        {
                                Return (Package ()
                                {
                                        1,          /* it measures; no trip points, no cap */
                                        0,          /* milliwatts */
                                        0,          /* input power */
                                        98000,      /* accurate to 98 % */
                                        1000,       /* a measurement each second */
                                        1000, 10000, /* averaging interval */
                                        0, 0, 0, 0, /* no hysteresis, no cap */
                                        "Model", "Serial", "OEM"
                                })
                        }
                        Method (_PMM) { Return (142500) }
                        Method (_GAI) { Return (GAI) }
                        Method (_PAI, 1) { GAI = Arg0 Return (Zero) }
                        Method (_PMD) { Return (Package () { \_SB }) }
                }
        }
}
