"""What people look at: HTML reports, leaderboards, contact sheets, JUnit."""
