//! The ids of the rows on the wire. Numbers are not contiguous.

/// Section, what it is about, and the numbers of its rows.
pub const SECTIONS: [(char, &str, &[u8]); 8] = [
    ('A', "TCP and message header", &[1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24]),
    (
        'B',
        "OPEN and capabilities",
        &[
            1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 32, 33,
            34, 35, 36, 37,
        ],
    ),
    (
        'C',
        "UPDATE framing and attribute headers",
        &[1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26],
    ),
    (
        'D',
        "path attributes",
        &[
            1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 32, 33,
            34, 35, 36, 37, 38, 39, 41, 42, 43, 44, 45, 46, 47, 48, 50,
        ],
    ),
    ('E', "MP_REACH_NLRI and MP_UNREACH_NLRI", &[1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19]),
    (
        'F',
        "EVPN routes",
        &[
            1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 32, 33,
            34, 35, 36, 37, 38, 39, 41, 42, 43,
        ],
    ),
    ('G', "NOTIFICATION, ROUTE-REFRESH, KEEPALIVE, timers", &[1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16]),
    ('H', "volume and fairness", &[1, 2, 3, 5, 6, 7, 8]),
];

/// All ids of one section, as `A01`.
///
/// # Panics
///
/// If there is no such section.
pub fn of(section: char) -> Vec<String> {
    let found = SECTIONS.iter().find(|(name, ..)| *name == section);
    let (_, _, numbers) = found.unwrap_or_else(|| panic!("no section {section}"));
    numbers.iter().map(|number| format!("{section}{number:02}")).collect()
}
